"""Message classes generated from proto/ by scripts/generate_protobuf.py."""
