"""One module per kind of webhook sender: it turns an authentic request into a `Notification`. Pure."""
