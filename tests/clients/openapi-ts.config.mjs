// Settings of hey-api: what it makes is run by Node, which wants the extension of each file.
export default {
  input: process.env.DOCUMENT,
  output: { path: "penstock", importFileExtension: ".js" },
  plugins: ["@hey-api/client-fetch"],
};
