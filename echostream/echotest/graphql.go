package echotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/ftpnode/ftpnode/echostream/internal/schema"
)

// moreSchema holds what EchoStream's Python library asks for beyond what our node does.
const moreSchema = `
type AppChangeReceiverNode implements Node {
  app: App!
  name: String!
  receiveEdge: Edge
  receiveMessageType: MessageType
  tenant: Tenant!
}
`

var loadSchema = sync.OnceValue(func() *ast.Schema {
	sources := []*ast.Source{{Name: "schema.graphql", Input: schema.Text}}
	if !strings.Contains(schema.Text, "type AppChangeReceiverNode ") {
		sources = append(sources, &ast.Source{Name: "more.graphql", Input: moreSchema})
	}
	return gqlparser.MustLoadSchema(sources...)
})

// object is a value of an object type. A field's value is a scalar, an enum value's name (string), an object, a slice ([]any),
// nil, or a resolver.
type object struct {
	typename string
	fields   map[string]any
}

type resolver func(args map[string]any) (any, error)

// apiError is an error that a resolver gives to the client, with AppSync's errorType.
type apiError struct{ kind, message string }

func (e *apiError) Error() string { return e.message }

// query is a GraphQL request that was parsed and found valid.
type query struct {
	schema    *ast.Schema
	operation *ast.OperationDefinition
	variables map[string]any
}

// validDocuments are the valid *ast.QueryDocument of each validText: validating takes milliseconds, and a client asks the same again and again.
var validDocuments sync.Map

type validText struct {
	schema *ast.Schema
	text   string
}

// parseDocument parses and validates the text of a request. The document is shared, and must not be changed.
func parseDocument(s *ast.Schema, text string) (*ast.QueryDocument, []answerError) {
	if doc, ok := validDocuments.Load(validText{s, text}); ok {
		return doc.(*ast.QueryDocument), nil
	}
	doc, err := parser.ParseQuery(&ast.Source{Input: text})
	if err != nil {
		return nil, []answerError{newAnswerError("InvalidSyntaxError", "Invalid syntax: ", err)}
	}
	if list := validator.ValidateWithRules(s, doc, rules.NewDefaultRules()); len(list) > 0 {
		var errs []answerError
		for _, err := range list {
			errs = append(errs, newAnswerError("ValidationError", "Validation error: ", err))
		}
		return nil, errs
	}
	validDocuments.Store(validText{s, text}, doc)
	return doc, nil
}

// parseQuery parses and validates a request. The errors are as AppSync words them.
func parseQuery(s *ast.Schema, text, operationName string, variables map[string]any) (*query, []answerError) {
	doc, errs := parseDocument(s, text)
	if errs != nil {
		return nil, errs
	}
	if operationName == "" && len(doc.Operations) > 1 {
		return nil, []answerError{{ErrorType: "BadRequestException", Message: "Must provide operation name if query contains multiple operations."}}
	}
	operation := doc.Operations.ForName(operationName)
	if operation == nil {
		return nil, []answerError{{ErrorType: "BadRequestException", Message: fmt.Sprintf("Unknown operation named '%s'.", operationName)}}
	}
	if operation.Operation != ast.Query {
		return nil, []answerError{{ErrorType: "UnsupportedOperation", Message: "Only queries are supported here."}}
	}
	for name := range variables {
		if operation.VariableDefinitions.ForName(name) == nil {
			delete(variables, name) // AppSync ignores them
		}
	}
	values, err := validator.VariableValues(s, operation, variables)
	if err == nil {
		err = strictVariables(s, operation, values)
	}
	if err != nil {
		return nil, []answerError{newAnswerError("ValidationError", "Variable error: ", err)}
	}
	return &query{schema: s, operation: operation, variables: values}, nil
}

// strictVariables refuses what gqlparser lets pass and AppSync does not: "1" as an Int, GZIP for gzip.
func strictVariables(s *ast.Schema, operation *ast.OperationDefinition, values map[string]any) error {
	for _, d := range operation.VariableDefinitions {
		text, ok := values[d.Variable].(string)
		if !ok {
			continue
		}
		def := s.Types[d.Type.Name()]
		if def.Name == "Int" || def.Name == "Float" || def.Kind == ast.Enum && def.EnumValues.ForName(text) == nil {
			return fmt.Errorf("variable %s: %q is not a %s", d.Variable, text, def.Name)
		}
	}
	return nil
}

// name is that of its first field: what Cloud.Requests counts.
func (q *query) name() string {
	for _, s := range q.operation.SelectionSet {
		if f, ok := s.(*ast.Field); ok {
			return f.Name
		}
	}
	return ""
}

// answerError is an error in an answer of AppSync.
type answerError struct {
	Path      []any      `json:"path"`
	Data      any        `json:"data"`
	ErrorType string     `json:"errorType,omitempty"`
	ErrorInfo any        `json:"errorInfo"`
	Locations []location `json:"locations"`
	Message   string     `json:"message"`
}

type location struct {
	Line       int     `json:"line"`
	Column     int     `json:"column"`
	SourceName *string `json:"sourceName"`
}

func newAnswerError(kind, prefix string, err error) answerError {
	a := answerError{ErrorType: kind, Message: prefix + err.Error()}
	var g *gqlerror.Error
	if errors.As(err, &g) {
		a.Message = prefix + g.Message
		if len(g.Path) > 0 {
			a.Message += " (" + g.Path.String() + ")"
		}
		for _, l := range g.Locations {
			a.Locations = append(a.Locations, location{Line: l.Line, Column: l.Column})
		}
	}
	return a
}

// execution answers one query.
type execution struct {
	*query
	denied map[string]bool // fields, as in "MessageType.auditor"
	errors []answerError
}

// run answers a query on root, without the fields that are denied.
func (q *query) run(root object, denied map[string]bool) (data any, errs []answerError) {
	x := &execution{query: q, denied: denied}
	data, ok := x.object(root, []ast.SelectionSet{q.operation.SelectionSet}, nil)
	if !ok {
		data = nil
	}
	return data, x.errors
}

// object completes an object's fields; false if one that must not be null is.
func (x *execution) object(o object, sets []ast.SelectionSet, path []any) (any, bool) {
	def := x.schema.Types[o.typename]
	if def == nil {
		panic("echotest: no type " + o.typename + " in the schema")
	}
	var groups fieldGroups
	for _, set := range sets {
		x.collect(&groups, o.typename, set)
	}
	out := make(result, 0, len(groups.order))
	for _, key := range groups.order {
		fields := groups.byKey[key]
		value, ok := x.field(o, def, fields, append(slices.Clip(path), key))
		if !ok {
			return nil, false
		}
		out = append(out, member{key, value})
	}
	return out, true
}

// fieldGroups are the fields of a selection by the key in the answer, in order.
type fieldGroups struct {
	order []string
	byKey map[string][]*ast.Field
}

func (x *execution) collect(groups *fieldGroups, typename string, set ast.SelectionSet) {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			if !x.included(s.Directives) {
				continue
			}
			if groups.byKey == nil {
				groups.byKey = make(map[string][]*ast.Field)
			}
			if _, ok := groups.byKey[s.Alias]; !ok {
				groups.order = append(groups.order, s.Alias)
			}
			groups.byKey[s.Alias] = append(groups.byKey[s.Alias], s)
		case *ast.InlineFragment:
			if x.included(s.Directives) && x.applies(s.TypeCondition, typename) {
				x.collect(groups, typename, s.SelectionSet)
			}
		case *ast.FragmentSpread:
			if x.included(s.Directives) && x.applies(s.Definition.TypeCondition, typename) {
				x.collect(groups, typename, s.Definition.SelectionSet)
			}
		}
	}
}

func (x *execution) included(directives ast.DirectiveList) bool {
	if d := directives.ForName("skip"); d != nil && d.ArgumentMap(x.variables)["if"] == true {
		return false
	}
	if d := directives.ForName("include"); d != nil && d.ArgumentMap(x.variables)["if"] == false {
		return false
	}
	return true
}

// applies reports whether a type is, or belongs to, the one of a fragment's condition.
func (x *execution) applies(condition, typename string) bool {
	return condition == "" || condition == typename ||
		slices.ContainsFunc(x.schema.PossibleTypes[condition], func(d *ast.Definition) bool { return d.Name == typename })
}

func (x *execution) field(o object, def *ast.Definition, fields []*ast.Field, path []any) (any, bool) {
	f := fields[0]
	if f.Name == "__typename" {
		return o.typename, true
	}
	fieldDef := def.Fields.ForName(f.Name)
	if x.denied[o.typename+"."+f.Name] {
		x.fail(f, path, &apiError{errUnauthorized.kind, fmt.Sprintf("Not Authorized to access %s on type %s", f.Name, o.typename)})
		return nil, !fieldDef.Type.NonNull
	}
	value, ok := o.fields[f.Name]
	if !ok {
		panic("echotest: no value for " + o.typename + "." + f.Name)
	}
	if resolve, ok := value.(resolver); ok {
		var err error
		if value, err = resolve(f.ArgumentMap(x.variables)); err != nil {
			x.fail(f, path, err)
			return nil, !fieldDef.Type.NonNull
		}
	}
	var sets []ast.SelectionSet
	for _, f := range fields {
		sets = append(sets, f.SelectionSet)
	}
	return x.complete(f, fieldDef.Type, value, sets, path)
}

// complete makes a value what its type says.
func (x *execution) complete(f *ast.Field, t *ast.Type, value any, sets []ast.SelectionSet, path []any) (any, bool) {
	if value == nil {
		if t.NonNull {
			x.fail(f, path, &apiError{message: fmt.Sprintf("Cannot return null for non-nullable type: '%s'", t.Name())})
		}
		return nil, !t.NonNull
	}
	if t.Elem == nil {
		if o, ok := value.(object); ok {
			out, ok := x.object(o, sets, path)
			return out, ok || !t.NonNull
		}
		return value, true
	}
	items := value.([]any)
	out := make([]any, len(items))
	for i, item := range items {
		v, ok := x.complete(f, t.Elem, item, sets, append(slices.Clip(path), i))
		if !ok {
			return nil, !t.NonNull
		}
		out[i] = v
	}
	return out, true
}

func (x *execution) fail(f *ast.Field, path []any, err error) {
	e := answerError{Path: path, Message: err.Error(), Locations: []location{{Line: f.Position.Line, Column: f.Position.Column}}}
	var api *apiError
	if errors.As(err, &api) {
		e.ErrorType = api.kind
	}
	x.errors = append(x.errors, e)
}

// result is an object of an answer, with its members in the order of the selection.
type result []member

type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (r result) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(m.key)
		b.Write(key)
		b.WriteByte(':')
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
