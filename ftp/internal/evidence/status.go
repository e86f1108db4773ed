package evidence

// status is what the kernel knows of a connection. Its zero value: nothing.
type status struct {
	known    bool
	state    uint8
	acked    uint64 // bytes that the other end has acknowledged
	received uint64 // bytes that have arrived in order, read or not; its FIN counts as one
}
