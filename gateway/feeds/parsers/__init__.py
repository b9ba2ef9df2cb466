"""From messages to notices: one module for each format, and for what data cannot say."""
