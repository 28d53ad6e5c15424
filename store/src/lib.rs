//! The store port: what is true. Redis or one SQLite file.
