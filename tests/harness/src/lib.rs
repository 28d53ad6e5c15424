//! Private servers for tests: dockerd, registry, RabbitMQ, Redis, and a proxy that breaks things.
