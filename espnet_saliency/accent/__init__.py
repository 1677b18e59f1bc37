"""The accent classifier: an encoder for ESPnet's cls task, its frozen form, and its evaluation."""
