package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// attributeSchema is what a provider documents of an attribute.
type attributeSchema struct {
	Use        string // required, optional or read-only
	Type       any
	Nesting    string // of an attribute that holds objects
	MaxLength  int
	Attributes map[string]attributeSchema
}

// resourceSchema is what a provider documents of a resource.
type resourceSchema struct {
	Attributes map[string]attributeSchema
	Blocks     map[string]resourceSchema
}

// providerSchema is a file in terraform/testdata.
type providerSchema struct {
	Source    string
	Resources map[string]resourceSchema
}

func readProviders(names ...string) (map[string]providerSchema, error) {
	providers := map[string]providerSchema{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("terraform", "testdata", name+".json"))
		if err != nil {
			return nil, err
		}
		var p providerSchema
		if err := json.Unmarshal(text, &p); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		providers[name] = p
	}
	return providers, nil
}

// check holds a module against the schemas of its providers and against itself: every name that it uses must exist,
// what is required must be given, and what is given must be known.
func check(m *module, providers map[string]providerSchema) []string {
	c := &checker{module: m, providers: providers, faults: slices.Clone(m.faults)}
	for _, key := range slices.Sorted(maps.Keys(m.resources)) {
		c.resource(key, m.resources[key])
	}
	for name, b := range m.modules {
		c.call(name, b)
	}
	for name, b := range m.variables {
		c.declared("variable "+name, b, []string{"description"}, []string{"type", "default", "sensitive"}, "validation")
	}
	for name, b := range m.outputs {
		c.declared("output "+name, b, []string{"value"}, []string{"description", "sensitive"})
	}
	for _, body := range m.bodies {
		c.references(body)
	}
	if _, err := m.context(nil); err != nil {
		c.add("%v", err)
	}
	slices.Sort(c.faults)
	return slices.Compact(c.faults)
}

type checker struct {
	module    *module
	providers map[string]providerSchema
	faults    []string
}

func (c *checker) add(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *checker) schema(kind string) (resourceSchema, bool) {
	local, _, _ := strings.Cut(kind, "_")
	p, ok := c.providers[local]
	if !ok {
		return resourceSchema{}, false
	}
	s, ok := p.Resources[kind]
	return s, ok
}

// meta are the arguments that Terraform itself takes in a resource.
var meta = []string{"count", "for_each", "depends_on", "provider"}

func (c *checker) resource(key string, b *hclsyntax.Block) {
	kind := b.Labels[0]
	local, _, _ := strings.Cut(kind, "_")
	if p, ok := c.providers[local]; !ok || c.module.providers[local] != p.Source {
		c.add("%s: the provider %s is not in required_providers, or not with the source %q", key, local, p.Source)
	}
	s, ok := c.schema(kind)
	if !ok {
		c.add("%s: no such resource is documented", key)
		return
	}
	c.body(key, b.Body, s)
}

func (c *checker) body(key string, body *hclsyntax.Body, s resourceSchema) {
	for name, attribute := range body.Attributes {
		if slices.Contains(meta, name) {
			continue
		}
		a, ok := s.Attributes[name]
		switch {
		case !ok:
			c.add("%s: no attribute %q", key, name)
		case a.Use == "read-only":
			c.add("%s: the attribute %q is read-only", key, name)
		case a.Nesting != "":
			c.objects(key+"."+name, attribute.Expr, a.Attributes)
		}
	}
	for name, a := range s.Attributes {
		if body.Attributes[name] == nil && a.Use == "required" {
			c.add("%s: the attribute %q is required", key, name)
		}
	}
	for _, inner := range body.Blocks {
		if inner.Type == "lifecycle" {
			for _, b := range inner.Body.Blocks {
				c.declared(key+" lifecycle "+b.Type, b, []string{"condition", "error_message"}, nil)
			}
			continue
		}
		s, ok := s.Blocks[inner.Type]
		if !ok {
			c.add("%s: no block %q", key, inner.Type)
			continue
		}
		c.body(key+"."+inner.Type, inner.Body, s)
	}
}

// objects checks the objects that an expression can give.
func (c *checker) objects(key string, expr hclsyntax.Expression, schema map[string]attributeSchema) {
	switch e := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		for _, item := range e.Exprs {
			c.objects(key, item, schema)
		}
	case *hclsyntax.FunctionCallExpr:
		for _, argument := range e.Args {
			c.objects(key, argument, schema)
		}
	case *hclsyntax.ForExpr:
		c.objects(key, e.ValExpr, schema)
	case *hclsyntax.ObjectConsExpr:
		given := map[string]bool{}
		for _, item := range e.Items {
			name, diags := item.KeyExpr.Value(nil)
			if diags.HasErrors() {
				c.add("%s: a key that only a run could tell", key)
				continue
			}
			given[name.AsString()] = true
			if a, ok := schema[name.AsString()]; !ok || a.Use == "read-only" {
				c.add("%s: no attribute %q that can be set", key, name.AsString())
			}
		}
		for name, a := range schema {
			if a.Use == "required" && !given[name] {
				c.add("%s: the attribute %q is required", key, name)
			}
		}
	default:
		c.add("%s: cannot tell which objects this expression gives", key)
	}
}

// declared checks a block that Terraform itself knows.
func (c *checker) declared(key string, b *hclsyntax.Block, required, optional []string, blocks ...string) {
	for name := range b.Body.Attributes {
		if !slices.Contains(required, name) && !slices.Contains(optional, name) {
			c.add("%s: no attribute %q", key, name)
		}
	}
	for _, name := range required {
		if b.Body.Attributes[name] == nil {
			c.add("%s: the attribute %q is required", key, name)
		}
	}
	for _, inner := range b.Body.Blocks {
		if !slices.Contains(blocks, inner.Type) {
			c.add("%s: no block %q", key, inner.Type)
			continue
		}
		c.declared(key+" "+inner.Type, inner, []string{"condition", "error_message"}, nil)
	}
}

// child is the module that a block calls.
func (c *checker) child(name string) (*module, error) {
	b := c.module.modules[name]
	if b.Body.Attributes["source"] == nil {
		return nil, fmt.Errorf("module %s: the attribute \"source\" is required", name)
	}
	source, diags := b.Body.Attributes["source"].Expr.Value(nil)
	if diags.HasErrors() {
		return nil, diags
	}
	return readModule(filepath.Join(c.module.dir, source.AsString()))
}

func (c *checker) call(name string, b *hclsyntax.Block) {
	child, err := c.child(name)
	if err != nil {
		c.add("%v", err)
		return
	}
	for argument := range b.Body.Attributes {
		if argument != "source" && !slices.Contains(meta, argument) && child.variables[argument] == nil {
			c.add("module %s: it has no variable %q", name, argument)
		}
	}
	for variable, declaration := range child.variables {
		if declaration.Body.Attributes["default"] == nil && b.Body.Attributes[variable] == nil {
			c.add("module %s: its variable %q is required", name, variable)
		}
	}
}

// references checks that whatever a body refers to exists.
func (c *checker) references(body *hclsyntax.Body) {
	for _, attribute := range body.Attributes {
		for _, traversal := range attribute.Expr.Variables() {
			c.reference(traversal)
		}
		c.calls(attribute.Expr)
	}
	for _, b := range body.Blocks {
		switch {
		case b.Type == "variable": // its type is words of its own
			for _, inner := range b.Body.Blocks {
				c.references(inner.Body)
			}
		case b.Type != "required_providers":
			c.references(b.Body)
		}
	}
}

// calls checks that there is every function that an expression calls.
func (c *checker) calls(expr hclsyntax.Expression) {
	diags := hclsyntax.VisitAll(expr, func(node hclsyntax.Node) hcl.Diagnostics {
		if call, ok := node.(*hclsyntax.FunctionCallExpr); ok {
			if _, ok := functions()[call.Name]; !ok {
				c.add("line %d: no function %q", call.NameRange.Start.Line, call.Name)
			}
		}
		return nil
	})
	if diags.HasErrors() {
		c.add("%v", diags)
	}
}

func (c *checker) reference(traversal hcl.Traversal) {
	root := traversal.RootName()
	var steps []string // the attributes, without indexes
	for _, step := range traversal[1:] {
		if step, ok := step.(hcl.TraverseAttr); ok {
			steps = append(steps, step.Name)
		}
	}
	at := fmt.Sprintf("%s:%d", traversal.SourceRange().Filename, traversal.SourceRange().Start.Line)
	if len(steps) == 0 {
		c.add("%s: %s refers to nothing", at, root)
		return
	}
	known := true
	switch root {
	case "var":
		known = c.module.variables[steps[0]] != nil
	case "local":
		known = c.module.locals[steps[0]] != nil
	case "path":
		known = steps[0] == "module"
	case "each":
		known = steps[0] == "key" || steps[0] == "value"
	case "module":
		if known = c.module.modules[steps[0]] != nil && len(steps) > 1; known {
			child, err := c.child(steps[0])
			known = err == nil && child.outputs[steps[1]] != nil
		}
	default:
		s, ok := c.schema(root)
		known = ok && c.module.resources[root+"."+steps[0]] != nil
		if known && len(steps) > 1 {
			_, known = s.Attributes[steps[1]]
		}
	}
	if !known {
		c.add("%s: there is no %s.%s", at, root, strings.Join(steps, "."))
	}
}
