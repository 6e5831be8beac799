"""What training, packing and generating will take, before they start: tokens, bytes, time, money."""
