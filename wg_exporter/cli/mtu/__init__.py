"""`wg-exporter mtu`: is the MTU of a tunnel right, and if not, what should it be?"""
