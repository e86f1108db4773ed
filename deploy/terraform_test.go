package deploy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTerraform(t *testing.T) {
	providers, err := readProviders("echostream", "aws")
	require.NoError(t, err)
	for _, dir := range []string{".", "ecr", "examples/node-type", "examples/complete"} {
		t.Run(dir, func(t *testing.T) {
			m, err := readModule(filepath.Join("terraform", dir))
			require.NoError(t, err)
			assert.Empty(t, check(m, providers))
		})
	}
}

// What is wrong in a module is found.
func TestTerraformCheck(t *testing.T) {
	providers, err := readProviders("echostream")
	require.NoError(t, err)
	const head = `terraform {
  required_providers {
    echostream = {
      source  = "Echo-Stream/echostream"
      version = ">= 1.4.0"
    }
  }
}
`
	tests := []struct{ name, text, want string }{
		{"nothing", `resource "echostream_managed_app" "a" {
  name = "abc"
}
`, ""},
		{"an attribute that is not there", `resource "echostream_managed_app" "a" {
  name  = "abc"
  title = "x"
}
`, `no attribute "title"`},
		{"a required attribute left out", `resource "echostream_managed_app" "a" {
  description = "abc"
}
`, `the attribute "name" is required`},
		{"a read-only attribute", `resource "echostream_managed_app" "a" {
  name                   = "abc"
  audit_records_endpoint = "x"
}
`, `the attribute "audit_records_endpoint" is read-only`},
		{"a resource that is not there", `resource "echostream_app" "a" {
  name = "abc"
}
`, "no such resource"},
		{"a block that is not there", `resource "echostream_managed_app" "a" {
  name = "abc"
  ports {}
}
`, `no block "ports"`},
		{"a nested attribute that is not there", `resource "echostream_managed_node" "a" {
  name              = "abc"
  app               = "abc"
  managed_node_type = "abc"
  mounts            = concat([for x in ["/data"] : { target = x, path = "y" }])
}
`, `echostream_managed_node.a.mounts: no attribute "path" that can be set`},
		{"a required nested attribute left out", `resource "echostream_managed_node" "a" {
  name              = "abc"
  app               = "abc"
  managed_node_type = "abc"
  mounts            = [{ source = "x" }]
}
`, `echostream_managed_node.a.mounts: the attribute "target" is required`},
		{"a variable that is not there", `resource "echostream_managed_app" "a" {
  name = var.name
}
`, "there is no var.name"},
		{"a local that is not there", `output "a" {
  value = local.name
}
`, "there is no local.name"},
		{"a resource's attribute that is not there", `resource "echostream_managed_app" "a" {
  name = "abc"
}

output "a" {
  value = echostream_managed_app.a.id
}
`, "there is no echostream_managed_app.a.id"},
		{"a module's variable that is not there", `module "a" {
  source = "./child"
  names  = "x"
}
`, `module a: it has no variable "names"`},
		{"a module's variable left out", `module "a" {
  source = "./child"
}
`, `module a: its variable "name" is required`},
		{"a module's output that is not there", `module "a" {
  source = "./child"
  name   = "x"
}

output "a" {
  value = module.a.names
}
`, "there is no module.a.names"},
		{"a function that is not there", `output "a" {
  value = lenght("x")
}
`, `no function "lenght"`},
		{"a variable without a description", `variable "a" {
  type = string
}
`, `variable a: the attribute "description" is required`},
		{"a default of another type", `variable "a" {
  description = "A."
  type        = list(string)
  default     = "x"
}
`, "variable a: "},
		{"a local that cannot be", `locals {
  a = 1 + "x"
}
`, "local a: "},
		{"a provider that is not named", `resource "aws_ecr_repository" "a" {
  name = "abc"
}
`, "the provider aws is not in required_providers"},
		{"two of the same", `output "a" {
  value = 1
}

output "a" {
  value = 2
}
`, "output a: there are two of it"},
		{"not formatted", `output "a" {
    value = 1
}
`, "main.tf is not formatted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "child"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "child", "main.tf"), []byte("variable \"name\" {\n  description = \"N.\"\n}\n"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.tf"), []byte(head+"\n"+tt.text), 0o644))
			m, err := readModule(dir)
			require.NoError(t, err)
			faults := check(m, providers)
			if tt.want == "" {
				assert.Empty(t, faults)
				return
			}
			assert.Contains(t, strings.Join(faults, "\n"), tt.want)
		})
	}
}

const image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ftpnode:1.0.0"

func TestTerraformVariables(t *testing.T) {
	m, err := readModule("terraform")
	require.NoError(t, err)
	config := map[string]any{"ftp": map[string]any{"users": []any{map[string]any{"name": "a", "password": "b"}}}}
	tests := []struct {
		name   string
		values map[string]any
		want   string // of the message, "" is none
	}{
		{"the defaults", nil, ""},
		{"a mount", map[string]any{"data_mount": true}, ""},
		{"nothing about the mount", map[string]any{"data_mount": nil}, "A new type: false"},
		{"a public image", map[string]any{"image_uri": "public.ecr.aws/abc/ftpnode:1.0.0"}, ""},
		{"an image elsewhere", map[string]any{"image_uri": "docker.io/ftpnode/ftpnode:1.0.0"}, "Amazon ECR"},
		{"an image without a tag", map[string]any{"image_uri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/ftpnode"}, "Amazon ECR"},
		{"a name that is EchoStream's", map[string]any{"name": "echo.ftp"}, "must not begin"},
		{"a name that is too short", map[string]any{"name": "ab"}, "3 to 80"},
		{"no description", map[string]any{"description": " "}, "must not be empty"},
		{"other ports", map[string]any{"passive_ports": "40000-40099"}, ""},
		{"one port", map[string]any{"passive_ports": "40000"}, "must be a range"},
		{"ports the wrong way", map[string]any{"passive_ports": "40009-40000"}, "the lower first"},
		{"ports that are not", map[string]any{"passive_ports": "65000-65999"}, "between 2122 and 65535"},
		{"the port of FTP among them", map[string]any{"passive_ports": "2121-2130"}, "between 2122 and 65535"},
		{"too many ports", map[string]any{"passive_ports": "30000-30500"}, "at most 500"},
		{"a port for the page", map[string]any{"status_port": 8443}, ""},
		{"FTP's port for the page", map[string]any{"status_port": 2121}, "which is FTP's"},
		{"a port for the page that is too low", map[string]any{"status_port": 443}, "from 1024 to 65535"},
		{"an app", map[string]any{"app": map[string]any{"name": "plant-7"}}, ""},
		{"an app's name with a dot", map[string]any{"app": map[string]any{"name": "plant.7"}}, "The app's name"},
		{"a node", map[string]any{"node": map[string]any{"name": "plant-7-ftp"}}, ""},
		{"a node's name with an underscore", map[string]any{"node": map[string]any{"name": "plant_7"}}, "The node's name"},
		{"a node on port 21", map[string]any{"node": map[string]any{"name": "abc", "ftp_port": 21}}, "opens no lower port"},
		{"a page on a port of its own", map[string]any{"node": map[string]any{"name": "abc", "status_port": 8444}}, ""},
		{"a page on port 443", map[string]any{"node": map[string]any{"name": "abc", "status_port": 443}}, "The node's status_port"},
		{"a level that is not", map[string]any{"node": map[string]any{"name": "abc", "logging_level": "TRACE"}}, "DEBUG, INFO"},
		{"a volume", map[string]any{"node": map[string]any{"name": "abc", "volume": "abc.files"}}, ""},
		{"a path for a volume", map[string]any{"node": map[string]any{"name": "abc", "volume": "/srv/ftp"}}, "not a path"},
		{"a config", map[string]any{"node_config": config}, ""},
		{"a config without users", map[string]any{"node_config": map[string]any{"ftp": map[string]any{"users": []any{}}}}, "at least one user"},
		{"a config of something else", map[string]any{"node_config": "{}"}, "at least one user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			values := map[string]any{"image_uri": image, "data_mount": false}
			for name, value := range tt.values {
				values[name] = value
			}
			messages, err := m.refusals(values)
			require.NoError(t, err)
			if tt.want == "" {
				assert.Empty(t, messages)
				return
			}
			assert.Contains(t, strings.Join(messages, "\n"), tt.want)
		})
	}
}

func TestTerraformNode(t *testing.T) {
	m, err := readModule("terraform")
	require.NoError(t, err)
	const node = "echostream_managed_node.this"
	values := func(more map[string]any) map[string]any {
		values := map[string]any{
			"image_uri": image, "data_mount": true, "passive_ports": "40000-40001", "app": map[string]any{"name": "plant-7"},
			"node":        map[string]any{"name": "plant-7-ftp", "ftp_port": 2100},
			"node_config": map[string]any{"ftp": map[string]any{"users": []any{map[string]any{"name": "a", "password": "b"}}}, "bulk": map[string]any{"accelerate": true}},
		}
		for name, value := range more {
			values[name] = value
		}
		return values
	}

	given := values(nil)
	assert.Equal(t, []any{map[string]any{"source": "plant-7-ftp-data", "target": "/data"}}, m.attribute(t, node, "mounts", given),
		"an anonymous volume would lose what waits")
	bare := values(map[string]any{"data_mount": false})
	assert.Empty(t, m.attribute(t, node, "mounts", bare), "for the Managed App that cannot mount")
	assert.Empty(t, m.attribute(t, "echostream_managed_node_type.this", "mount_requirements", bare))
	port := func(container, host float64) any {
		return map[string]any{"container_port": container, "host_address": "0.0.0.0", "host_port": host, "protocol": "tcp"}
	}
	assert.Equal(t, []any{port(2121, 2100), port(40000, 40000), port(40001, 40001)}, m.attribute(t, node, "ports", given))
	paged := values(map[string]any{"status_port": 8443})
	assert.Equal(t, []any{port(2121, 2100), port(40000, 40000), port(40001, 40001), port(8443, 8443)}, m.attribute(t, node, "ports", paged))
	assert.Len(t, m.attribute(t, "echostream_managed_node_type.this", "port_requirements", paged), 4)
	paged["node"] = map[string]any{"name": "plant-7-ftp", "ftp_port": 2100, "status_port": 8444}
	assert.Contains(t, m.attribute(t, node, "ports", paged), port(8443, 8444))
	var config map[string]any
	require.NoError(t, json.Unmarshal([]byte(m.attribute(t, node, "config", given).(string)), &config))
	assert.Equal(t, "40000-40001", config["ftp"].(map[string]any)["passivePorts"])
	assert.Equal(t, map[string]any{"accelerate": true}, config["bulk"])
	assert.Empty(t, schemaErrors(t, "config.schema.json", config))
	assert.Empty(t, schemaErrors(t, "config.template.json", config))

	for name, tt := range map[string]struct {
		values map[string]any
		want   []string
	}{
		"all well":       {nil, nil},
		"the same ports": {map[string]any{"node_config": map[string]any{"ftp": map[string]any{"users": []any{1}, "passivePorts": "40000-40001"}}}, nil},
		"other ports":    {map[string]any{"node_config": map[string]any{"ftp": map[string]any{"users": []any{1}, "passivePorts": "30000-30009"}}}, []string{"ftp.passivePorts in node_config differs from passive_ports: leave it out of node_config."}},
		"no app":         {map[string]any{"app": nil}, []string{"A node needs an app: set app as well."}},
		"no config":      {map[string]any{"node_config": nil}, []string{"A node needs a config with at least one user: set node_config as well."}},
		"a page":         {map[string]any{"status_port": 8443, "node_config": map[string]any{"ftp": map[string]any{"users": []any{1}}, "status": map[string]any{"port": 8443}}}, nil},
		"a page, and the type has no port for it": {map[string]any{"node_config": map[string]any{"ftp": map[string]any{"users": []any{1}}, "status": map[string]any{"port": 8443}}},
			[]string{"status.port in node_config differs from status_port, the port that the type has for it."}},
		"the page on a passive port": {map[string]any{"status_port": 40001}, []string{"The status_port is one of the passive ports."}},
		"one port, twice":            {map[string]any{"node": map[string]any{"name": "abc", "ftp_port": 40001}}, []string{"The node's ftp_port is one of its passive ports."}},
	} {
		t.Run(name, func(t *testing.T) {
			messages, err := m.preconditions(node, values(tt.values))
			require.NoError(t, err)
			assert.Equal(t, tt.want, messages)
		})
	}
}

// The provider refuses a longer text, at plan or at apply.
func TestTemplateFits(t *testing.T) {
	providers, err := readProviders("echostream")
	require.NoError(t, err)
	limit := providers["echostream"].Resources["echostream_managed_node_type"].Attributes["config_template"].MaxLength
	require.Positive(t, limit)
	m, err := readModule("terraform")
	require.NoError(t, err)
	template := m.attribute(t, "echostream_managed_node_type.this", "config_template", map[string]any{"image_uri": image, "data_mount": false}).(string)
	assert.LessOrEqual(t, len(template), limit)
	assert.JSONEq(t, readFile(t, "config.template.json"), template)
}
