"""What answers must look like.

=====================  =======================================================================
file                   what is in it
=====================  =======================================================================
``form.py``            ``Json``, ``Regex``, ``Choice`` and ``Lark``: forms as calls take them
``schema.py``          JSON schemas as grammars
``formats.py``         dates, addresses and other texts of a known format
``decimals.py``        numbers between two bounds
``lengths.py``         how long the texts of a structured value may be
``annotation.py``      Python types as JSON schemas; needs pydantic, which comes with DSPy
``response.py``        ``response_format`` and forms
=====================  =======================================================================
"""
