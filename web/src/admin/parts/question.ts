/** Something that is asked before it is done, because it cannot be undone. */
export interface Question {
  title: string;
  text: string;
  /** on the button that does it */
  verb: string;
  /** what has to be typed first, for many things at once */
  type?: string;
  agreed: () => void;
}
