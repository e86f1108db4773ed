output "node_type" {
  description = "Name of the node type, for managed nodes made elsewhere."
  value       = echostream_managed_node_type.this.name
}

output "ports" {
  description = "The container's ports: the one for FTP, then the passive ones."
  value       = concat([local.ftp_port], local.passive_ports)
}

output "app" {
  description = "Name of the managed app, null without one."
  value       = try(echostream_managed_app.this[0].name, var.app.name, null)
}

output "node" {
  description = "Name of the managed node, null without one."
  value       = try(echostream_managed_node.this[0].name, null)
}

output "volume" {
  description = "The Docker volume on the app's host that holds the node's files, null without a node or a mount."
  value       = var.node == null || var.data_mount != true ? null : coalesce(var.node.volume, "${var.node.name}-data")
}
