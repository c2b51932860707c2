// The commands, each in a file of its own, and the table they make up.
#pragma once

#include <vector>

#include <capstan/client/cli/arguments.h>

namespace capstan::cli {

Command serveCommand();
Command lsCommand();
Command statCommand();
Command catCommand();
Command putCommand();
Command getCommand();
Command mkdirCommand();
Command mvCommand();
Command cpCommand();
Command rmCommand();
Command digestCommand();
Command watchCommand();
Command syncCommand();
Command conflictsCommand();
Command explainCommand();
Command runsCommand();
Command undoCommand();
Command trashCommand();
Command shareCommand();
Command sharesCommand();
Command revokeCommand();
Command addCommand();
Command sortCommand();
Command sumCommand();
Command minCommand();
Command maxCommand();
Command countCommand();
Command jobCommand();
Command statusCommand();
Command pingCommand();
Command doctorCommand();
Command shellCommand();
Command demoCommand();
Command versionCommand();
Command completionCommand();

// In the order of the help.
const std::vector<Command>& commandTable();

}  // namespace capstan::cli
