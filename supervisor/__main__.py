from wsd.supervisor.cli.app import main

main()
