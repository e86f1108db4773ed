// Package nodetest tests a node as its world treats it: the cloud goes away, the process is killed, the disk is full.
//
// [Suite] runs the bridge's own program, a process that can be killed, against an EchoStream in the test's process
// (package echotest), feeds it as its devices do, and holds what arrives against what was acknowledged: nothing lost, nothing twice,
// in order, byte for byte, on every edge, each with its audit record, and no secret in the log. A bridge says what an item is and
// how a device hands it over; it has no code of its own for any outage:
//
//	func TestMain(m *testing.M) { nodetest.Main(m, main) }
//
//	func TestNode(t *testing.T) {
//		nodetest.Suite(t, func(t *testing.T) nodetest.Bridge {
//			return nodetest.Bridge{
//				Data: "WATCHFOLDER_DATA",
//				Feed: func(ctx context.Context, dir string, item nodetest.Item) error {
//					temporary := filepath.Join(dir, "in", "."+item.Name)
//					…
//					return os.Rename(temporary, filepath.Join(dir, "in", item.Name))
//				},
//			}
//		})
//	}
//
// [New] is for tests of a bridge's own on the same ground.
//
// # Limits
//
// What an item's device was not told may have arrived or not, and, as it is sent again, once for each time. The audit record of a message
// that was received is lost if the node is killed between the two: it is not looked for then. Whether a power cut is
// survived is not tested: a killed process leaves what it wrote to the kernel. Package disktest does that.
package nodetest
