// MinIO is a real S3 server for tests: a program of its own, built into the
// cache, never part of the product.
module postern/bridge/parts/minio

go 1.24.0

require github.com/minio/minio v0.0.0-20250907161309-07c3a429bfed
