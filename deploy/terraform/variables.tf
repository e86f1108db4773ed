variable "name" {
  description = "Name of the node type, unique in the tenant. EchoStream never changes a type's ports, mounts or config schema: give a new name (ftpnode-v2) when one of them changes."
  type        = string
  default     = "ftpnode-v1"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.: -]{3,80}$", var.name)) && !startswith(var.name, "echo.")
    error_message = "The name must have 3 to 80 letters, digits, spaces or any of - _ . : and must not begin with \"echo.\"."
  }
}

variable "image_uri" {
  description = "The image in Amazon ECR, with its tag. Give each build a tag of its own: nodes are updated when this changes, not when a tag is pushed again."
  type        = string

  validation {
    condition     = can(regex("^([0-9]{12}\\.dkr\\.ecr\\.[a-z]+-[a-z]+-[0-9]\\.amazonaws\\.com/.+:.+|public\\.ecr\\.aws/.+/.+:.+)$", var.image_uri))
    error_message = "The image must be in Amazon ECR: <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag> or public.ecr.aws/<alias>/<repository>:<tag>."
  }
}

variable "description" {
  description = "What people see beside the node type's name."
  type        = string
  default     = "FTP server: every file dropped by FTP or FTPS becomes an echo.file message, unchanged"

  validation {
    condition     = length(trimspace(var.description)) > 0
    error_message = "The description must not be empty."
  }
}

variable "passive_ports" {
  description = "Ports for data connections, as the config's ftp.passivePorts has them: \"30000-30009\". One for each transfer at a time; every node of the type maps each of them to a port of its host."
  type        = string
  default     = "30000-30009"

  validation {
    condition     = can(regex("^[0-9]{4,5}-[0-9]{4,5}$", var.passive_ports))
    error_message = "The passive ports must be a range such as \"30000-30009\"."
  }

  validation {
    condition = try(
      tonumber(split("-", var.passive_ports)[0]) > 2121 &&
      tonumber(split("-", var.passive_ports)[0]) <= tonumber(split("-", var.passive_ports)[1]) &&
      tonumber(split("-", var.passive_ports)[1]) <= 65535 &&
      tonumber(split("-", var.passive_ports)[1]) - tonumber(split("-", var.passive_ports)[0]) < 500,
    false)
    error_message = "The passive ports must lie between 2122 and 65535, the lower first, at most 500 of them."
  }
}

variable "status_port" {
  description = "The container's port of the status page, as the config's status.port has it, for example 8443. By default, the type has no port for it, and no node of the type can have the page. Like all ports it cannot be changed later."
  type        = number
  default     = null

  validation {
    condition     = var.status_port == null || try(var.status_port >= 1024 && var.status_port <= 65535 && var.status_port != 2121 && floor(var.status_port) == var.status_port, false)
    error_message = "The status_port must be a whole number from 1024 to 65535, and not 2121, which is FTP's."
  }
}

variable "data_mount" {
  description = "Whether nodes of the type have a mount for their files; to be set. false: every Managed App starts them, and 226 means: delivered. true: a named volume, and 226 means: stored on it; the Managed App that EchoStream has released (0.3.0) cannot start such a node, so try it on a scratch machine first (README.md). It cannot be changed for a type that exists: give a new name."
  type        = bool
  default     = null

  validation {
    condition     = var.data_mount != null
    error_message = "Set data_mount. A new type: false, which every Managed App can start. A type that was made before this had to be set has a mount: true keeps it as it is."
  }
}

variable "send_message_type" {
  description = "The message type that the nodes send."
  type        = string
  default     = "echo.file"
}

variable "app" {
  description = "The managed app that the node runs in: its name, and whether to make it. By default, none."
  type = object({
    name        = string
    create      = optional(bool, true)
    description = optional(string)
  })
  default = null

  validation {
    condition     = var.app == null || can(regex("^[A-Za-z0-9_-]{3,80}$", var.app.name))
    error_message = "The app's name must have 3 to 80 letters, digits, - or _."
  }
}

variable "node" {
  description = "A managed node to run in the app. By default, none. volume is the Docker volume on the app's host that holds the files, by default <name>-data; ftp_port, status_port (by default, the same as the type's) and the passive ports are opened on host_address."
  type = object({
    name          = string
    description   = optional(string)
    ftp_port      = optional(number, 2121)
    host_address  = optional(string, "0.0.0.0")
    logging_level = optional(string, "INFO")
    status_port   = optional(number)
    volume        = optional(string)
  })
  default = null

  validation {
    condition     = var.node == null || can(regex("^[A-Za-z0-9-]{3,63}$", var.node.name))
    error_message = "The node's name must have 3 to 63 letters, digits or -."
  }

  validation {
    condition     = var.node == null || try(var.node.ftp_port >= 1024 && var.node.ftp_port <= 65535 && floor(var.node.ftp_port) == var.node.ftp_port, false)
    error_message = "The node's ftp_port must be a whole number from 1024 to 65535: EchoStream opens no lower port."
  }

  validation {
    condition     = var.node == null || try(var.node.status_port == null || (var.node.status_port >= 1024 && var.node.status_port <= 65535 && floor(var.node.status_port) == var.node.status_port), false)
    error_message = "The node's status_port must be a whole number from 1024 to 65535: EchoStream opens no lower port."
  }

  validation {
    condition     = var.node == null || try(contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.node.logging_level), false)
    error_message = "The node's logging_level must be DEBUG, INFO, WARNING or ERROR."
  }

  validation {
    condition     = var.node == null || try(var.node.volume == null || can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]+$", var.node.volume)), false)
    error_message = "The node's volume must be the name of a Docker volume: letters, digits, _ . or -, not a path."
  }
}

variable "node_config" {
  description = "The node's config, as config.schema.json describes it: { ftp = { users = [...] } }. ftp.passivePorts is filled in from passive_ports."
  type        = any
  default     = null
  sensitive   = true

  validation {
    condition     = var.node_config == null || try(length(var.node_config.ftp.users) > 0, false)
    error_message = "The node's config needs at least one user in ftp.users."
  }
}

variable "targets" {
  description = "Names of the nodes that get the files: an edge is made from the node to each. They must receive the same message type."
  type        = set(string)
  default     = []
}
