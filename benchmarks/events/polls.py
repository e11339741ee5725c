def main(quick):
    pass
