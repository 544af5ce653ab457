"""The version of the package, in its one place."""

VERSION = "0.1.0"
