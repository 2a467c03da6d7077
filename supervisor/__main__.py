from wsd.supervisor.cli import main

main()
