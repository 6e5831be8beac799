"""A stream in other trainers: torch's ``DataLoader``, Hugging Face's ``Trainer``, torchtitan.

Each module is about one library and imports it; nothing else of Headwater imports them.
"""
