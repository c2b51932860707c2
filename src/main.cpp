// The `capstan` program: nothing but the way into its table of subcommands.
#include <capstan/client/cli/commands.h>

int main(int argc, char** argv) { return capstan::cli::run(argc, argv); }
