# The whole way: a repository for the image, the node type, an app, a node in it, and an edge to the node that gets
# the files. Run it in two steps, since the image must be in the repository before a node can start:
#
#   tofu apply -target=module.repository
#   # push the image, see ../../../README.md
#   tofu apply

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
    echostream = {
      source  = "Echo-Stream/echostream"
      version = ">= 1.4.0, < 2.0.0"
    }
  }
}

provider "aws" {
  region = "us-east-1"
}

provider "echostream" {}

variable "tag" {
  description = "Tag of the image."
  type        = string
  default     = "1.0.0"
}

variable "scanner_password_hash" {
  description = "Hash of the scanner's password: htpasswd -nbB scanner PASSWORD, the part after the colon."
  type        = string
  sensitive   = true
}

variable "public_address" {
  description = "The address by which the FTP clients reach the app's host."
  type        = string
}

module "repository" {
  source = "../../ecr"
}

# Stands for the node of yours that takes the files.
resource "echostream_load_balancer_node" "files" {
  name                 = "files"
  receive_message_type = "echo.file"
}

module "ftpnode" {
  source = "../.."

  image_uri  = "${module.repository.repository_url}:${var.tag}"
  data_mount = false # every Managed App starts it; 226 means: delivered. See ../../../README.md
  app        = { name = "plant-7" }
  node       = { name = "plant-7-ftp" }
  targets    = [echostream_load_balancer_node.files.name]

  node_config = {
    ftp = {
      users         = [{ name = "scanner", passwordHash = var.scanner_password_hash }]
      publicAddress = var.public_address
    }
  }
}

output "node" {
  value = module.ftpnode.node
}
