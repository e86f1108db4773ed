# A private repository for the image. Of its own, so that the node type needs no AWS provider.

resource "aws_ecr_repository" "this" {
  name = var.name

  # A node is updated when its image's tag changes: a tag that never moves says what runs.
  image_tag_mutability = "IMMUTABLE"
  tags                 = var.tags

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_repository_policy" "pull" {
  count = length(var.pull_principals) == 0 ? 0 : 1

  repository = aws_ecr_repository.this.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Pull"
      Effect    = "Allow"
      Principal = { AWS = var.pull_principals }
      Action = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
      ]
    }]
  })
}
