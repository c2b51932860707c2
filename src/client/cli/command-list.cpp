#include <capstan/client/cli/command-list.h>

namespace capstan::cli {

const std::vector<Command>& commandTable() {
  static const std::vector<Command> TABLE{
      serveCommand(),  lsCommand(),        statCommand(),    catCommand(),     putCommand(),        getCommand(),
      mkdirCommand(),  mvCommand(),        cpCommand(),      rmCommand(),      digestCommand(),     watchCommand(),
      syncCommand(),   conflictsCommand(), explainCommand(), runsCommand(),    undoCommand(),       trashCommand(),
      shareCommand(),  sharesCommand(),    revokeCommand(),  addCommand(),     sortCommand(),       sumCommand(),
      minCommand(),    maxCommand(),       countCommand(),   jobCommand(),     statusCommand(),     pingCommand(),
      doctorCommand(), shellCommand(),     demoCommand(),    versionCommand(), completionCommand(),
  };
  return TABLE;
}

}  // namespace capstan::cli
