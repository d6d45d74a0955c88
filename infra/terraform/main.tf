# stakeseal on AWS from Terraform.
#
# It wraps the CloudFormation templates beside it instead of saying the same in
# another language: what was reviewed and proved (infra/README.md) is what is
# deployed, byte for byte. Terraform keeps no secret of it: stacks have none.
#
# The steps and their people stay: bootstrap with the account's first
# administrator, everything else with the break-glass role, and a release
# between foundation and function. Apply with -target, in the order of the
# README, or keep bootstrap in a state of its own.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0" }
  }
}

variable "name" {
  description = "Name of the installation, 3 to 20 lower-case letters, digits and hyphens."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "3 to 20 lower-case letters, digits and hyphens."
  }
}

variable "principals" {
  description = "ARNs that may take each role: Developer, ReleaseManager, Requester, Depositor, Signer, Recovery, Auditor, Administrator, BreakGlass."
  type        = map(list(string))
}

variable "package_key" {
  description = "Key of the signed package of the first release, such as signed/JOB.zip; empty before there is one."
  type        = string
  default     = ""
}

variable "alarm_email" {
  description = "Gets every alarm."
  type        = string
}

provider "aws" {
  default_tags { tags = { stakeseal = var.name } }
}

# 1. The account's first administrator.
resource "aws_cloudformation_stack" "bootstrap" {
  name          = "${var.name}-bootstrap"
  template_body = file("${path.module}/../bootstrap.yaml")
  capabilities  = ["CAPABILITY_NAMED_IAM"]
  parameters = merge(
    { Name = var.name },
    { for who, arns in var.principals : "${who}Principals" => join(",", arns) },
  )
  lifecycle { prevent_destroy = true }
}

# 2. From here on break-glass: a provider with
#    assume_role { role_arn = aws_cloudformation_stack.bootstrap.outputs.BreakGlassRoleArn }
#    after a session with its second factor. KMS makes keys without a statement
#    for the root only for a caller whom their policies name.
resource "aws_cloudformation_stack" "foundation" {
  name          = "${var.name}-foundation"
  template_body = file("${path.module}/../foundation.yaml")
  parameters    = { Name = var.name }
  depends_on    = [aws_cloudformation_stack.bootstrap]
  lifecycle { prevent_destroy = true }
}

resource "aws_cloudformation_stack" "watch" {
  name          = "${var.name}-watch"
  template_body = file("${path.module}/../watch.yaml")
  parameters = {
    Name         = var.name
    AlarmEmail   = var.alarm_email
    InvokeEvents = "on"
    TableEvents  = "on"
    ObjectEvents = "on"
  }
  depends_on = [aws_cloudformation_stack.foundation]
}

# 3. After the first package was signed; releases go on without Terraform.
resource "aws_cloudformation_stack" "function" {
  count         = var.package_key == "" ? 0 : 1
  name          = "${var.name}-function"
  template_body = file("${path.module}/../function.yaml")
  parameters = {
    Name       = var.name
    PackageKey = var.package_key
  }
  depends_on = [aws_cloudformation_stack.foundation]
  lifecycle {
    # The first release's key: a later one here would deploy past the review.
    ignore_changes = [parameters["PackageKey"]]
  }
}

# What "stakeseal init --aws" reads as well.
output "foundation" { value = aws_cloudformation_stack.foundation.outputs }
output "function" { value = one(aws_cloudformation_stack.function[*].outputs) }
