output "repository_url" {
  description = "Where to push the image: <account>.dkr.ecr.<region>.amazonaws.com/<name>."
  value       = aws_ecr_repository.this.repository_url
}

output "registry_id" {
  description = "The account that holds the repository."
  value       = aws_ecr_repository.this.registry_id
}
