package echostream

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// batchProtocol is the AWS SDK's protocol, but that it writes the body of a SendMessageBatch itself: the SDK's serializer looks at each byte
// by itself, and its buffer grows from nothing for each request and is copied then.
type batchProtocol struct{ smithyhttp.ClientProtocol }

// SerializeRequest implements smithyhttp.ClientProtocol.
func (p batchProtocol) SerializeRequest(ctx context.Context, operation *smithy.OperationSchema, in smithy.Serializable, r *smithyhttp.Request) error {
	batch, ok := in.(*sqs.SendMessageBatchInput)
	if !ok {
		return p.ClientProtocol.SerializeRequest(ctx, operation, in, r)
	}
	// It writes the head, and a body without entries.
	if err := p.ClientProtocol.SerializeRequest(ctx, operation, &sqs.SendMessageBatchInput{}, r); err != nil {
		return err
	}
	whole, err := r.SetStream(bytes.NewReader(batchJSON(batch)))
	if err != nil {
		return err
	}
	*r = *whole
	return nil
}

// batchJSON writes what post puts into a request.
func batchJSON(in *sqs.SendMessageBatchInput) []byte {
	size := 256
	for _, e := range in.Entries {
		size += len(aws.ToString(e.MessageBody))*65/64 + 512 // a quote or a backslash takes two bytes
	}
	b := make([]byte, 0, size)
	b = appendString(append(b, `{"QueueUrl":`...), aws.ToString(in.QueueUrl))
	b = append(b, `,"Entries":[`...)
	for i, e := range in.Entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"Id":`...), aws.ToString(e.Id))
		b = appendString(append(b, `,"MessageGroupId":`...), aws.ToString(e.MessageGroupId))
		b = appendString(append(b, `,"MessageDeduplicationId":`...), aws.ToString(e.MessageDeduplicationId))
		b = append(b, `,"MessageAttributes":{`...)
		separator := ""
		for name, a := range e.MessageAttributes {
			b = appendString(append(b, separator...), name)
			b = appendString(append(b, `:{"DataType":`...), aws.ToString(a.DataType))
			b = appendString(append(b, `,"StringValue":`...), aws.ToString(a.StringValue))
			b = append(b, '}')
			separator = ","
		}
		b = appendString(append(b, `},"MessageBody":`...), aws.ToString(e.MessageBody))
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// appendString appends a text as JSON. It is UTF-8.
func appendString(b []byte, text string) []byte {
	b = append(b, '"')
	for {
		part, rest, quote := strings.Cut(text, `"`)
		if isPlain(part) {
			b = append(b, part...)
		} else {
			b = appendEscaped(b, part)
		}
		if !quote {
			return append(b, '"')
		}
		b = append(b, `\"`...)
		text = rest
	}
}

func appendEscaped(b []byte, text string) []byte {
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return b
}
