// File for one connection: a descriptor held open for reading, with stat, read, stream, digest and chunks.
#pragma once

#include <memory>

#include <capstan/schema/files.capnp.h>
#include <capstan/server/access/guarded.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/open-file.h>
#include <capstan/server/files/slot.h>
#include <capstan/server/files/view.h>

namespace capstan::server::files {

// Belongs to its connection's loop. Jobs on the pool share the descriptor, so that it may be dropped at any time.
class FileServer final : public Guarded<schema::File> {
 public:
  // `folder` must outlive it.
  FileServer(FolderState& folder, std::shared_ptr<const View> view, std::shared_ptr<const OpenFile> file, Slot slot);

  const std::shared_ptr<const OpenFile>& opened() const { return file; }
  // Of the tree that it was opened in.
  const std::string& top() const { return view->top(); }
  std::shared_ptr<const Grant> grant() const { return access->lease->grant; }

 protected:
  kj::Promise<void> stat(StatContext context) override;
  kj::Promise<void> read(ReadContext context) override;
  kj::Promise<void> stream(StreamContext context) override;
  kj::Promise<void> digest(DigestContext context) override;
  kj::Promise<void> chunks(ChunksContext context) override;

 private:
  FolderState& folder;
  const std::shared_ptr<const View> view;
  const std::shared_ptr<const OpenFile> file;
  Slot slot;

  bool readNow(ReadContext& context, uint64_t offset, size_t count);
  kj::Promise<void> readOnPool(ReadContext context, uint64_t offset, size_t count);
  kj::Promise<void> readCharged(ReadContext context, uint64_t offset, size_t count);
};

}  // namespace capstan::server::files
