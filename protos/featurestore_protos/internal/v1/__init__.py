"""Generated from protos/featurestore by `make protos`. Do not edit."""
