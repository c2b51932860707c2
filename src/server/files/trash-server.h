// Trash for one connection: what runs have displaced, and the way back.
#pragma once

#include <capstan/server/access/guarded.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/view.h>

namespace capstan::server::files {

// Belongs to its connection's loop. The folder must outlive it.
class TrashServer final : public Guarded<schema::Trash> {
 public:
  TrashServer(FolderState& folder, std::shared_ptr<const View> view, kj::Own<Access> access);

 protected:
  kj::Promise<void> runs(RunsContext context) override;
  kj::Promise<void> list(ListContext context) override;
  kj::Promise<void> restore(RestoreContext context) override;
  kj::Promise<void> undo(UndoContext context) override;
  kj::Promise<void> empty(EmptyContext context) override;

 private:
  FolderState& folder;
  const std::shared_ptr<const View> view;
  ConnectionScope* const scope;  // kept alive by `access`
};

}  // namespace capstan::server::files
