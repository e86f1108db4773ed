// Package echofile is EchoStream's message type echo.file: a JSON object that describes a file and holds its content, or the URL
// where the content is. A [Composer] writes it of what is in an outbox, a [Reader] reads it.
//
// It promises that what is written says of the file what its audit record does, and always fits a message: a name of any bytes
// stays whole, and content that is too long goes to bulk data storage. What is read to its io.EOF is what the message says, byte
// for byte: one content encoding is undone, never more, and the length and the SHA-256 are compared where the message has them. A
// download that breaks off goes on where it broke off. No URL of bulk data storage, which is as good as a password, stands in an
// error or a log value.
//
// It does not say where a file goes or what its name means: a name is text from elsewhere.
//
// Writing, in a bridge's Compose:
//
//	composer := &echofile.Composer{Upload: bulk.Upload, Now: client.Now}
//	m, err := composer.Compose(ctx, entry, open, echofile.Origin{Fields: []echofile.Field{
//		{Key: "scanner", Attribute: "scanner", Value: "Canon 7"},
//	}})
//
// Reading:
//
//	reader := &echofile.Reader{}
//	err := client.Receive(ctx, echostream.ReceiveOptions{}, func(ctx context.Context, m echostream.ReceivedMessage) error {
//		file, err := reader.File(m)
//		if err != nil {
//			return err // permanent: no echo.file message
//		}
//		content, err := file.Open(ctx)
//		if err != nil {
//			return err
//		}
//		defer content.Close()
//		return store(file.Name, content) // temp, copy to io.EOF, fsync, rename, fsync
//	})
package echofile
