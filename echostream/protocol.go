package echostream

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// batchProtocol is the AWS SDK's protocol, but that the body of the request, a SendMessageBatch, is given: the SDK's serializer looks at each byte
// by itself, and its buffer grows from nothing for each request and is copied then.
type batchProtocol struct {
	smithyhttp.ClientProtocol
	body []byte
}

// SerializeRequest implements smithyhttp.ClientProtocol.
func (p batchProtocol) SerializeRequest(ctx context.Context, operation *smithy.OperationSchema, _ smithy.Serializable, r *smithyhttp.Request) error {
	// It writes the head, and a body without entries.
	if err := p.ClientProtocol.SerializeRequest(ctx, operation, &sqs.SendMessageBatchInput{}, r); err != nil {
		return err
	}
	whole, err := r.SetStream(bytes.NewReader(p.body))
	if err != nil {
		return err
	}
	*r = *whole
	return nil
}

// entry is a message of a batch. Its id is its place.
type entry struct {
	Message
	group string
}

// batchJSON is the body of a SendMessageBatch.
func batchJSON(queue string, entries []entry) []byte {
	size := 256
	for _, e := range entries {
		size += e.Size()*65/64 + 512 // a quote or a backslash takes two bytes
	}
	b := make([]byte, 0, size)
	b = appendString(append(b, `{"QueueUrl":`...), queue)
	b = append(b, `,"Entries":[`...)
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"Id":`...), strconv.Itoa(i))
		b = appendString(append(b, `,"MessageGroupId":`...), e.group)
		b = appendString(append(b, `,"MessageDeduplicationId":`...), e.TrackingID)
		b = appendAttribute(append(b, `,"MessageAttributes":{`...), attributeTrackingID, e.TrackingID)
		if len(e.PrevTrackingIDs) > 0 {
			b = appendAttribute(append(b, ','), attributePrevTrackingIDs, e.prevTrackingIDs())
		}
		b = appendString(append(b, `},"MessageBody":`...), e.Body)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

func appendAttribute(b []byte, name, value string) []byte {
	b = appendString(b, name)
	b = appendString(append(b, `:{"DataType":`...), attributeType)
	b = appendString(append(b, `,"StringValue":`...), value)
	return append(b, '}')
}

// appendString appends a text as JSON. It is UTF-8.
func appendString(b []byte, text string) []byte {
	b = append(b, '"')
	for {
		part, rest, quote := strings.Cut(text, `"`)
		if isPlain(part) {
			b = append(b, part...)
		} else {
			quoted, _ := MarshalMessage(part) // of a string: it cannot fail
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		if !quote {
			return append(b, '"')
		}
		b = append(b, `\"`...)
		text = rest
	}
}
