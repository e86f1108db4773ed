package echotest

import (
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Introspection: clients such as Python's gql fetch the schema before they ask for anything.

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func introspectSchema(s *ast.Schema) object {
	var types []any
	for _, name := range slices.Sorted(maps.Keys(s.Types)) {
		types = append(types, introspectType(s, s.Types[name]))
	}
	var directives []any
	for _, name := range slices.Sorted(maps.Keys(s.Directives)) {
		directives = append(directives, introspectDirective(s, s.Directives[name]))
	}
	root := func(d *ast.Definition) any {
		if d == nil {
			return nil
		}
		return introspectType(s, d)
	}
	return object{"__Schema", map[string]any{
		"description":      orNil(s.Description),
		"types":            types,
		"queryType":        root(s.Query),
		"mutationType":     root(s.Mutation),
		"subscriptionType": root(s.Subscription),
		"directives":       directives,
	}}
}

func introspectDirective(s *ast.Schema, d *ast.DirectiveDefinition) object {
	var locations []any
	for _, l := range d.Locations {
		locations = append(locations, string(l))
	}
	return object{"__Directive", map[string]any{
		"name":         d.Name,
		"description":  orNil(d.Description),
		"locations":    locations,
		"args":         introspectArguments(s, d.Arguments),
		"isRepeatable": d.IsRepeatable,
	}}
}

// introspectType leaves what leads to other types to resolvers: types refer to each other in circles.
func introspectType(s *ast.Schema, d *ast.Definition) object {
	list := func(has bool, items func() []any) resolver {
		return func(map[string]any) (any, error) {
			if !has {
				return nil, nil
			}
			out := items()
			if out == nil {
				out = []any{}
			}
			return out, nil
		}
	}
	composite := d.Kind == ast.Object || d.Kind == ast.Interface
	return object{"__Type", map[string]any{
		"kind":        string(d.Kind),
		"name":        d.Name,
		"description": orNil(d.Description),
		"fields": list(composite, func() (out []any) {
			for _, f := range d.Fields {
				if !strings.HasPrefix(f.Name, "__") {
					out = append(out, introspectField(s, f))
				}
			}
			return out
		}),
		"interfaces": list(composite, func() (out []any) {
			for _, name := range d.Interfaces {
				out = append(out, introspectType(s, s.Types[name]))
			}
			return out
		}),
		"possibleTypes": list(d.Kind == ast.Interface || d.Kind == ast.Union, func() (out []any) {
			for _, p := range s.GetPossibleTypes(d) {
				out = append(out, introspectType(s, p))
			}
			return out
		}),
		"enumValues": list(d.Kind == ast.Enum, func() (out []any) {
			for _, v := range d.EnumValues {
				out = append(out, object{"__EnumValue", map[string]any{
					"name": v.Name, "description": orNil(v.Description), "isDeprecated": false, "deprecationReason": nil,
				}})
			}
			return out
		}),
		"inputFields": list(d.Kind == ast.InputObject, func() (out []any) {
			for _, f := range d.Fields {
				out = append(out, introspectInput(s, f.Name, f.Description, f.Type, f.DefaultValue))
			}
			return out
		}),
		"ofType":         nil,
		"specifiedByURL": nil,
		"isOneOf":        false,
	}}
}

func introspectField(s *ast.Schema, f *ast.FieldDefinition) object {
	return object{"__Field", map[string]any{
		"name":              f.Name,
		"description":       orNil(f.Description),
		"args":              introspectArguments(s, f.Arguments),
		"type":              introspectTypeRef(s, f.Type),
		"isDeprecated":      false,
		"deprecationReason": nil,
	}}
}

func introspectArguments(s *ast.Schema, args ast.ArgumentDefinitionList) []any {
	out := []any{}
	for _, a := range args {
		out = append(out, introspectInput(s, a.Name, a.Description, a.Type, a.DefaultValue))
	}
	return out
}

func introspectInput(s *ast.Schema, name, description string, t *ast.Type, defaultValue *ast.Value) object {
	o := object{"__InputValue", map[string]any{
		"name":              name,
		"description":       orNil(description),
		"type":              introspectTypeRef(s, t),
		"defaultValue":      nil,
		"isDeprecated":      false,
		"deprecationReason": nil,
	}}
	if defaultValue != nil {
		o.fields["defaultValue"] = defaultValue.String()
	}
	return o
}

// introspectTypeRef wraps a type in NON_NULL and LIST.
func introspectTypeRef(s *ast.Schema, t *ast.Type) object {
	wrap := func(kind string, of *ast.Type) object {
		o := introspectType(s, &ast.Definition{Kind: ast.DefinitionKind(kind)})
		o.fields["name"] = nil
		o.fields["ofType"] = introspectTypeRef(s, of)
		return o
	}
	switch {
	case t.NonNull:
		inner := *t
		inner.NonNull = false
		return wrap("NON_NULL", &inner)
	case t.Elem != nil:
		return wrap("LIST", t.Elem)
	}
	return introspectType(s, s.Types[t.NamedType])
}
