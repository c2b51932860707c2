#include <capstan/client/cli/invite-file.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../storage/temp-folder.h"

namespace capstan::cli {
namespace {

TEST(InviteFile, ThatNobodyHasNamedTakesNothingsPlace) {
  storage::TempFolder folder;
  folder.write("there", "mine");
  folder.link("link", "nowhere");
  for (const char* name : {"there", "link"}) {
    Status written = writeNewInvite(folder / name, "invite");
    ASSERT_FALSE(written.ok());
    EXPECT_EQ(written.error().code, ErrorCode::EXISTS);
    EXPECT_THAT(written.error().message, testing::HasSubstr("-o"));
  }
  EXPECT_EQ(folder.read("there"), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder / "nowhere"));
}

TEST(InviteFile, IsForItsOwnerAlone) {
  storage::TempFolder folder;
  ASSERT_TRUE(writeNewInvite(folder / "new", "invite").ok());
  EXPECT_EQ(folder.read("new"), "invite");
  EXPECT_EQ(folder.stat("new").st_mode & 07777, 0600u);
}

}  // namespace
}  // namespace capstan::cli
