package freeport

import "testing"

// A command that measures for an hour asks for many ports, one server after the other.
func TestFindDoesNotRunOut(t *testing.T) {
	for range 200 {
		if _, err := Find(257); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRangeIsKeptUntilItsTestEnds(t *testing.T) {
	var port int
	t.Run("one", func(t *testing.T) {
		port = Range(t, 10)
		if free(port, 1) || free(port+9, 1) {
			t.Error("others may have it")
		}
	})
	if !free(port, 10) {
		t.Error("nobody has it any more")
	}
}
