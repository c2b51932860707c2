// FileStore for one connection. Reading methods are in file-store-read.cpp, mutations in file-store-write.cpp, batches
// and the trash in file-store-batch.cpp.
#pragma once

#include <capstan/server/access/guarded.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/view.h>

namespace capstan::server::files {

// What everything that is begun while the server goes away is answered.
Error shuttingDownError();

// Belongs to its connection's loop. Holds no state of its own but the scope and its view of the folder: everything else
// is FolderState's, which outlives it.
class FileStoreServer final : public Guarded<schema::FileStore> {
 public:
  FileStoreServer(FolderState& folder, kj::Own<Access> access);

 protected:
  kj::Promise<void> stat(StatContext context) override;
  kj::Promise<void> list(ListContext context) override;
  kj::Promise<void> open(OpenContext context) override;

  kj::Promise<void> create(CreateContext context) override;
  kj::Promise<void> put(PutContext context) override;
  kj::Promise<void> makeDirectory(MakeDirectoryContext context) override;
  kj::Promise<void> symlink(SymlinkContext context) override;
  kj::Promise<void> setMetadata(SetMetadataContext context) override;
  kj::Promise<void> rename(RenameContext context) override;
  kj::Promise<void> copy(CopyContext context) override;
  kj::Promise<void> remove(RemoveContext context) override;

  // file-store-batch.cpp
  kj::Promise<void> begin(BeginContext context) override;
  kj::Promise<void> trash(TrashContext context) override;

  kj::Promise<void> watch(WatchContext context) override;  // watch.cpp
  kj::Promise<void> subtree(SubtreeContext context) override;
  kj::Promise<void> share(ShareContext context) override;  // file-store-share.cpp

 private:
  FolderState& folder;
  ConnectionScope* const scope;  // kept alive by `access`
  const std::shared_ptr<const View> view;
};

}  // namespace capstan::server::files
