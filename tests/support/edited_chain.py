"""A chain for tests of users' edits in Airflow: besides the shop's own, built from the same source by other tags."""

from __future__ import annotations

CHAIN = "edited"
IMAGE = "edited/api"
SPEC = """\
version: 1
name: edited
scope: {instance: cn-hangzhou, namespace: edited, repositories: [api]}
sources: {api: {connection: git_shop, url: shop/api.git}}
build: {rules: [{name: release, tag: '(?<name>e\\d+)', tags: [{tag: '${name}'}]}]}
scan: {block: {severity: high, on_block: {backup: true, delete: true}}}
replicate:
  - {name: near, to: ap-southeast-1}
  - {name: far, to: eu-central-1}
distribute: [{name: tell, url_connection: faults_redeploy}]
"""
