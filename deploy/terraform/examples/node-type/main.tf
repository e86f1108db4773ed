# The smallest use: the node type alone, from an image that is in ECR already. The nodes are then made in
# EchoStream's console.

terraform {
  required_version = ">= 1.5"

  required_providers {
    echostream = {
      source  = "Echo-Stream/echostream"
      version = ">= 1.4.0, < 2.0.0"
    }
  }
}

# Its credentials come from the environment: ECHOSTREAM_APPSYNC_ENDPOINT, ECHOSTREAM_CLIENT_ID, ECHOSTREAM_PASSWORD,
# ECHOSTREAM_TENANT, ECHOSTREAM_USERNAME, ECHOSTREAM_USER_POOL_ID.
provider "echostream" {}

variable "image_uri" {
  description = "The image in Amazon ECR, with its tag."
  type        = string
}

module "ftpnode" {
  source = "../.."

  image_uri  = var.image_uri
  data_mount = false # every Managed App starts it; 226 means: delivered. See ../../../README.md
}

output "node_type" {
  value = module.ftpnode.node_type
}
