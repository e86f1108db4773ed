// Package echofile is EchoStream's message type echo.file: a JSON object that describes a file and holds its content, or the URL
// where the content is. A [Composer] makes it of a file in an outbox, a [Reader] reads it.
//
// A message that is written says the same of the file as its audit record, and always fits: a name of any bytes stays whole, and
// content that is too long goes to bulk data storage. What is read up to io.EOF is the file, byte for byte: one content encoding is
// undone, never more, and the length and the SHA-256 are compared where the message has them. A download that breaks off is resumed
// where it broke off. No URL of bulk data storage, which is as good as a password, stands in an error or a log value.
//
// A name is text from elsewhere. What it means, and where a file is stored, is for the caller to decide.
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
