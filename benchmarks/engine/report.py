def said(row):
    return str(row)


def write():
    pass
