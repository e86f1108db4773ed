package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// module is a directory of Terraform files, read but not run.
type module struct {
	dir       string
	providers map[string]string // its source, by local name
	variables map[string]*hclsyntax.Block
	outputs   map[string]*hclsyntax.Block
	resources map[string]*hclsyntax.Block // by type.name
	modules   map[string]*hclsyntax.Block
	locals    map[string]hclsyntax.Expression
	faults    []string // those of its shape
	bodies    []*hclsyntax.Body
}

// readModule reads the .tf files of a directory. What is wrong with them is in faults.
func readModule(dir string) (*module, error) {
	m := &module{dir: dir, providers: map[string]string{}, variables: map[string]*hclsyntax.Block{}, outputs: map[string]*hclsyntax.Block{},
		resources: map[string]*hclsyntax.Block{}, modules: map[string]*hclsyntax.Block{}, locals: map[string]hclsyntax.Expression{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s has no .tf file", dir)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if formatted := hclwrite.Format(source); string(formatted) != string(source) {
			m.fault("%s is not formatted", filepath.Base(name))
		}
		file, diags := hclsyntax.ParseConfig(source, filepath.Base(name), hcl.InitialPos)
		if diags.HasErrors() {
			return nil, diags
		}
		body := file.Body.(*hclsyntax.Body)
		m.bodies = append(m.bodies, body)
		m.gather(body)
	}
	return m, nil
}

func (m *module) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (m *module) gather(body *hclsyntax.Body) {
	for name := range body.Attributes {
		m.fault("%s: an attribute outside of any block", name)
	}
	for _, b := range body.Blocks {
		into := map[string]map[string]*hclsyntax.Block{"variable": m.variables, "output": m.outputs, "resource": m.resources, "module": m.modules}[b.Type]
		key := strings.Join(b.Labels, ".")
		switch {
		case into != nil && into[key] != nil:
			m.fault("%s %s: there are two of it", b.Type, key)
		case into != nil:
			into[key] = b
		case b.Type == "locals":
			for name, attribute := range b.Body.Attributes {
				m.locals[name] = attribute.Expr
			}
		case b.Type == "terraform":
			for _, inner := range b.Body.Blocks {
				for name, attribute := range inner.Body.Attributes {
					value, diags := attribute.Expr.Value(nil)
					if inner.Type != "required_providers" || diags.HasErrors() || !value.Type().HasAttribute("source") || !value.Type().HasAttribute("version") {
						m.fault("terraform: expected required_providers, each with source and version")
						continue
					}
					m.providers[name] = value.GetAttr("source").AsString()
				}
			}
		case b.Type == "provider":
		default:
			m.fault("%s: no such block", b.Type)
		}
	}
}

// functions are those of Terraform that the module uses. One that is missing here is a fault.
func functions() map[string]function.Function {
	return map[string]function.Function{
		"can": tryfunc.CanFunc, "try": tryfunc.TryFunc, "range": stdlib.RangeFunc, "concat": stdlib.ConcatFunc,
		"split": stdlib.SplitFunc, "regex": stdlib.RegexFunc, "trimspace": stdlib.TrimSpaceFunc, "floor": stdlib.FloorFunc,
		"contains": stdlib.ContainsFunc, "merge": stdlib.MergeFunc, "jsonencode": stdlib.JSONEncodeFunc,
		"jsondecode": stdlib.JSONDecodeFunc, "coalesce": stdlib.CoalesceFunc, "tonumber": stdlib.MakeToFunc(cty.Number),
		"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)), "length": lengthFunc,
		"startswith": boolFunc(strings.HasPrefix), "alltrue": allTrueFunc, "file": fileFunc,
	}
}

func boolFunc(f func(s, prefix string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "s", Type: cty.String}, {Name: "prefix", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if args[0].Type() == cty.String {
			return stdlib.Strlen(args[0])
		}
		return stdlib.Length(args[0])
	},
})

var allTrueFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
	Type:   function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		for _, v := range args[0].AsValueSlice() {
			if v.False() {
				return cty.False, nil
			}
		}
		return cty.True, nil
	},
})

var fileFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "path", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, err := os.ReadFile(args[0].AsString())
		return cty.StringVal(string(text)), err
	},
})

// variable converts a value to a variable's type, as a caller's argument is; a nil value is the default.
func (m *module) variable(name string, value any) (cty.Value, error) {
	body := m.variables[name].Body
	kind, defaults := cty.DynamicPseudoType, (*typeexpr.Defaults)(nil)
	if attribute := body.Attributes["type"]; attribute != nil {
		var diags hcl.Diagnostics
		if kind, defaults, diags = typeexpr.TypeConstraintWithDefaults(attribute.Expr); diags.HasErrors() {
			return cty.NilVal, diags
		}
	}
	var v cty.Value
	switch {
	case value != nil:
		text, err := json.Marshal(value)
		if err != nil {
			return cty.NilVal, err
		}
		given, err := ctyjson.ImpliedType(text)
		if err != nil {
			return cty.NilVal, err
		}
		if v, err = ctyjson.Unmarshal(text, given); err != nil {
			return cty.NilVal, err
		}
	case body.Attributes["default"] != nil:
		var diags hcl.Diagnostics
		if v, diags = body.Attributes["default"].Expr.Value(nil); diags.HasErrors() {
			return cty.NilVal, diags
		}
	default:
		return cty.UnknownVal(kind.WithoutOptionalAttributesDeep()), nil
	}
	if defaults != nil && !v.IsNull() {
		v = defaults.Apply(v)
	}
	return convert.Convert(v, kind)
}

// inputs is what the validations of the variables can see, with these values for them.
func (m *module) inputs(values map[string]any) (*hcl.EvalContext, error) {
	variables := map[string]cty.Value{}
	for name := range m.variables {
		v, err := m.variable(name, values[name])
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		variables[name] = v
	}
	return &hcl.EvalContext{Functions: functions(), Variables: map[string]cty.Value{"var": cty.ObjectVal(variables)}}, nil
}

// context is what all other expressions of the module can see. What only an apply could tell is unknown.
func (m *module) context(values map[string]any) (*hcl.EvalContext, error) {
	ctx, err := m.inputs(values)
	if err != nil {
		return nil, err
	}
	ctx.Variables["path"] = cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(m.dir)})
	ctx.Variables["each"] = cty.ObjectVal(map[string]cty.Value{"key": cty.UnknownVal(cty.String), "value": cty.UnknownVal(cty.String)})
	for key := range m.resources {
		ctx.Variables[strings.Split(key, ".")[0]] = cty.DynamicVal
	}
	ctx.Variables["module"] = cty.DynamicVal
	locals := map[string]cty.Value{}
	for range m.locals { // each round, one more local can be known
		for _, name := range slices.Sorted(maps.Keys(m.locals)) {
			if v, diags := m.locals[name].Value(ctx); !diags.HasErrors() {
				locals[name] = v
			}
		}
		ctx.Variables["local"] = cty.ObjectVal(locals)
	}
	for name, expr := range m.locals {
		if _, ok := locals[name]; !ok {
			_, diags := expr.Value(ctx)
			return nil, fmt.Errorf("local %s: %w", name, diags)
		}
	}
	return ctx, nil
}

// refusals are the messages of the variables' validations that these values fail.
func (m *module) refusals(values map[string]any) ([]string, error) {
	ctx, err := m.inputs(values)
	if err != nil {
		return nil, err
	}
	var messages []string
	for _, name := range slices.Sorted(maps.Keys(m.variables)) {
		for _, b := range m.variables[name].Body.Blocks {
			failed, message, err := condition(b, ctx)
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", name, err)
			}
			if failed {
				messages = append(messages, message)
			}
		}
	}
	return messages, nil
}

// preconditions are the messages of a resource's preconditions that these values fail.
func (m *module) preconditions(resource string, values map[string]any) ([]string, error) {
	ctx, err := m.context(values)
	if err != nil {
		return nil, err
	}
	var messages []string
	for _, lifecycle := range m.resources[resource].Body.Blocks {
		for _, b := range lifecycle.Body.Blocks {
			failed, message, err := condition(b, ctx)
			if err != nil {
				return nil, err
			}
			if failed {
				messages = append(messages, message)
			}
		}
	}
	return messages, nil
}

func condition(b *hclsyntax.Block, ctx *hcl.EvalContext) (failed bool, message string, err error) {
	holds, diags := b.Body.Attributes["condition"].Expr.Value(ctx)
	text, more := b.Body.Attributes["error_message"].Expr.Value(ctx)
	if diags = append(diags, more...); diags.HasErrors() {
		return false, "", diags
	}
	return holds.IsKnown() && holds.False(), text.AsString(), nil
}

// attribute is the value of a resource's attribute, as JSON is decoded; what is not known is null.
func (m *module) attribute(t *testing.T, resource, name string, values map[string]any) any {
	t.Helper()
	ctx, err := m.context(values)
	require.NoError(t, err)
	require.Contains(t, m.resources, resource)
	require.Contains(t, m.resources[resource].Body.Attributes, name)
	v, diags := m.resources[resource].Body.Attributes[name].Expr.Value(ctx)
	require.False(t, diags.HasErrors(), "%v", diags)
	text, err := ctyjson.Marshal(cty.UnknownAsNull(v), cty.UnknownAsNull(v).Type())
	require.NoError(t, err)
	var decoded any
	require.NoError(t, json.Unmarshal(text, &decoded))
	return decoded
}
