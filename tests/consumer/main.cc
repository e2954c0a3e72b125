// The least that a consumer does: it includes the one header and links the one library.
#include <cordwood/cordwood.h>

int main() { return absl::OkStatus().ok() ? 0 : 1; }
