// Package interop holds the tests of this module's EchoStream client against EchoStream's own library for nodes, which is in
// Python: what one sends the other receives. They have the build tag interop, take a Python of 3.12 or newer and the package
// index, and fail where they cannot have them. ECHOSTREAM_PYTHON names a Python that has the library already.
package interop
