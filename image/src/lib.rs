//! The image engine: OCI types and the registry client.
