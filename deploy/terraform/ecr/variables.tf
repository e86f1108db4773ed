variable "name" {
  description = "Name of the repository."
  type        = string
  default     = "ftpnode"

  validation {
    condition     = can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 256
    error_message = "The repository's name must have 2 to 256 lower-case letters and digits, with single . _ - or / between them."
  }
}

variable "pull_principals" {
  description = "ARNs of the AWS principals that may pull the image: those that EchoStream's managed apps use. By default, only the repository's own account."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for p in var.pull_principals : can(regex("^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:.+$", p))])
    error_message = "Each principal must be an ARN such as \"arn:aws:iam::123456789012:root\"."
  }
}

variable "tags" {
  description = "Tags for the repository."
  type        = map(string)
  default     = {}
}
