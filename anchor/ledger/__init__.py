"""The ledger service: withholds parties' signed chain transactions until their deal finishes, then broadcasts them and tells
what became of them; it signs none itself, and what it decides it decides by the record.
"""
