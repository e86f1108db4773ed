terraform {
  required_version = ">= 1.5"

  required_providers {
    echostream = {
      source  = "Echo-Stream/echostream"
      version = ">= 1.4.0, < 2.0.0"
    }
  }
}
