# Registers ftpnode as a managed node type; with var.app and var.node, runs one too.

locals {
  ftp_port  = 2121
  data_path = "/data"

  # Without a mount the node's files go with its container, and it answers 226 when a file is delivered.
  data_mounts = var.data_mount == true ? [local.data_path] : []

  # Each port is mapped one by one, so each has to be named here.
  passive_ports = range(
    tonumber(split("-", var.passive_ports)[0]),
    tonumber(split("-", var.passive_ports)[1]) + 1,
  )

  status_ports = var.status_port == null ? [] : [var.status_port]

  node_config = var.node_config == null ? null : merge(var.node_config, {
    ftp = merge({ passivePorts = var.passive_ports }, var.node_config.ftp)
  })
}

resource "echostream_managed_node_type" "this" {
  name        = var.name
  description = var.description
  image_uri   = var.image_uri
  readme      = file("${path.module}/../NODE_TYPE.md")

  # The schema without what explains it: EchoStream takes 4,096 characters. Decoded and encoded again, so that white
  # space in the file is no reason to replace the type.
  config_template = jsonencode(jsondecode(file("${path.module}/../config.template.json")))

  mount_requirements = [
    for target in local.data_mounts : {
      description = "Files that are being received, that wait to be sent, or that failed. Give it a source, the name of a volume: without one, each change of the node destroys what waits."
      target      = target
    }
  ]

  port_requirements = concat(
    [
      {
        container_port = local.ftp_port
        description    = "FTP and FTPS: log-in and commands"
        protocol       = "tcp"
      },
    ],
    [
      for port in local.passive_ports : {
        container_port = port
        description    = "FTP data (passive mode): best the same host port; clients are told the one that it is mapped to"
        protocol       = "tcp"
      }
    ],
    [
      for port in local.status_ports : {
        container_port = port
        description    = "The status page (HTTPS), if the config has status.port"
        protocol       = "tcp"
      }
    ],
  )

  send_message_type = var.send_message_type
}

resource "echostream_managed_app" "this" {
  count = try(var.app.create, false) ? 1 : 0

  name        = var.app.name
  description = var.app.description
}

resource "echostream_managed_node" "this" {
  count = var.node == null ? 0 : 1

  name              = var.node.name
  app               = try(echostream_managed_app.this[0].name, var.app.name)
  managed_node_type = echostream_managed_node_type.this.name
  description       = var.node.description
  logging_level     = var.node.logging_level
  config            = local.node_config == null ? null : jsonencode(local.node_config)

  # A named volume. An anonymous one goes when EchoStream makes the container anew, as it does for each change.
  mounts = [
    for target in local.data_mounts : {
      source = coalesce(var.node.volume, "${var.node.name}-data")
      target = target
    }
  ]

  ports = concat(
    [
      {
        container_port = local.ftp_port
        host_address   = var.node.host_address
        host_port      = var.node.ftp_port
        protocol       = "tcp"
      },
    ],
    [
      # Clients are told the host port. That it is the same is what people expect in a firewall's rules.
      for port in local.passive_ports : {
        container_port = port
        host_address   = var.node.host_address
        host_port      = port
        protocol       = "tcp"
      }
    ],
    [
      for port in local.status_ports : {
        container_port = port
        host_address   = var.node.host_address
        host_port      = var.node.status_port == null ? port : var.node.status_port
        protocol       = "tcp"
      }
    ],
  )

  lifecycle {
    precondition {
      condition     = var.app != null
      error_message = "A node needs an app: set app as well."
    }
    precondition {
      condition     = var.node_config != null
      error_message = "A node needs a config with at least one user: set node_config as well."
    }
    precondition {
      condition     = try(local.node_config.ftp.passivePorts == var.passive_ports, true)
      error_message = "ftp.passivePorts in node_config differs from passive_ports: leave it out of node_config."
    }
    precondition {
      condition     = !contains(local.passive_ports, var.node.ftp_port)
      error_message = "The node's ftp_port is one of its passive ports."
    }
    precondition {
      condition     = var.status_port == null ? true : !contains(local.passive_ports, var.status_port)
      error_message = "The status_port is one of the passive ports."
    }
    precondition {
      condition     = try(var.node_config.status.port == (var.status_port == null ? 0 : var.status_port), true)
      error_message = "status.port in node_config differs from status_port, the port that the type has for it."
    }
  }
}

resource "echostream_edge" "this" {
  for_each = var.node == null ? toset([]) : var.targets

  source      = echostream_managed_node.this[0].name
  target      = each.value
  description = "Files from ${var.node.name}"
}
