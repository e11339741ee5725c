"""Who sends webhooks: each module is one kind of sender, and turns an authentic request into a `Notification`. Pure."""
