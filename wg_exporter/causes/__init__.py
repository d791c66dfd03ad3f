"""Why a tunnel does not work: a closed set of causes, each with what proves it. No socket and no clock here.

`facts` has the row of everything that a cause may be decided from, `cause` the set. `decide` goes through the table of
rules; there is a file of rules for each subject. docs/causes.md is made from them.
"""
