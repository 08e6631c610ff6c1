//! What the end-to-end tests share: where the binaries are, and how to run them. These tests drive
//! the binaries in `dist/` and link nothing of them.
