// Trash for one connection: what runs have displaced, and the way back.
#pragma once

#include <capstan/server/files/folder-state.h>

namespace capstan::server::files {

// Belongs to its connection's loop. The folder must outlive it.
class TrashServer final : public schema::Trash::Server {
 public:
  TrashServer(FolderState& folder, kj::Own<ConnectionScope> scope);

 protected:
  kj::Promise<void> runs(RunsContext context) override;
  kj::Promise<void> list(ListContext context) override;
  kj::Promise<void> restore(RestoreContext context) override;
  kj::Promise<void> undo(UndoContext context) override;
  kj::Promise<void> empty(EmptyContext context) override;

 private:
  FolderState& folder;
  const kj::Own<ConnectionScope> scope;
};

}  // namespace capstan::server::files
